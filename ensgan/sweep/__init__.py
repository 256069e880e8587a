"""One sweep: from resolved inputs to a selected ensemble, stage by stage."""
