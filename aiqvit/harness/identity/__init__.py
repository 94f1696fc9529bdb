"""What a run is: its spec and id, the source that it executes, and where it was made."""
