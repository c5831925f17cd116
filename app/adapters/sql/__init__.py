"""The ledger's storage in SQL: SQLAlchemy Core for what is seldom read, the driver's own forms where it is hot."""
