"""What flows and where it stands, watched from the operator's terminal."""
