"""What is known about the names that serialised objects refer to: which may be constructed, called, or only held."""
