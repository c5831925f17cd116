"""Who may do what: merchants' tokens (DESIGN.md, section 1: lease, role and ttl are Vault's words)."""
