"""Who may come in: X.509 certificates, JSON Web Tokens, and the authority that decides."""
