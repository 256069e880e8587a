"""Ray: one Tune trial a GAN, tasks for the rest."""
