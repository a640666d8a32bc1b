"""pi0: a vision-language prefix and a flow-matching action expert."""
