"""Where executor and store are chosen: the one way from commands into the stages."""
