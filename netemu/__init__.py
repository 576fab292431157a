"""netemu: a virtio-net link you can hold in your hand."""
