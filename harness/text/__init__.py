"""Words: other people's made safe to show, ours made easy to read."""
