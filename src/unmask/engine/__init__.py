"""Fast forward passes for use: the same network as `model.encoder`, in the format and on the path that fit here."""
