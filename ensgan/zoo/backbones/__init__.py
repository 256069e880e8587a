"""Network families: generator, discriminator trunk and the layers of its heads."""
