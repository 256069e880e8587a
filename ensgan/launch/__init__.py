"""Where executor, store and pictures are chosen: the commands' one way in."""
