"""`sqap_vla bench`: paired, interleaved measurements on one machine."""
