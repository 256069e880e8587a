"""The stages of a sweep and the runner that orders them."""
