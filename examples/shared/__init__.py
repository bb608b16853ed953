"""What every example uses: a server of its own, and a report."""
