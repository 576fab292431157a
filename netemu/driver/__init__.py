"""The guest: a driver that follows Linux's virtio_net and virtio_ring, with their names. Knows no device."""
