"""Identities by which graphs are written in another form: equal in value, or better to differentiate."""
