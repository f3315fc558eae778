"""What Pulse is compared with: its predecessor's delivery before and after its first cure, written as well as possible.

Both take messages over ingest's own HTTP edge, answer 202 only once the message is fsynced, share one HTTP client with
a time-out of 10 s, and write a dead letter for what fails. They differ from Pulse in who waits for whom.
"""
