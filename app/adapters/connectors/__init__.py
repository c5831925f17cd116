"""Connectors: the code that speaks to PSPs, and a sandbox PSP that speaks Stripe's wire."""
