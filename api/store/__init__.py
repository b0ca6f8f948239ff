"""What is true: alerts, incidents, evidence, plans, decisions, events, leases, audit; in SQL."""
