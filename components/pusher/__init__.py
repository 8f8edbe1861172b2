"""AtomicPusher: TFX's Pusher, but each version appears completely or not at all."""
