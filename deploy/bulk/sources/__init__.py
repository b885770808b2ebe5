"""Where `pe-embed` takes its pictures, texts and videos from. One module for each kind of source."""
