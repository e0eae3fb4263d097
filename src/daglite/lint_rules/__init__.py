"""The rules of `lint`: what is allowed, but is hardly meant."""
