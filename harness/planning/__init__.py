"""What a plan is made of: order, history, cost, matched sides and attainable verdicts."""
