"""One module per verb of the `sqap_vla` command line: `add_arguments` and `run`."""
