"""punchtun under a real systemd, booted in containers."""
