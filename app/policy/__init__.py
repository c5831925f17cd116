"""Policy: decisions by Rego bundles, and the record that each leaves."""
