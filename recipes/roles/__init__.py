"""Student, fake score and teacher: which weights play which part."""
