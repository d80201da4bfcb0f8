"""VSCG: propagation, then event summaries that start recurrent networks."""
