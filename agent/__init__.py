"""How an incident is worked: evidence, signals, diagnosis, plan, gate, apply, verify."""
