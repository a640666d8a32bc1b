"""One module a verb of the `sqap_vla` command line: `SUMMARY`, `add_arguments`, `run`."""
