"""How a GAN learns."""
