"""Parts that several model families are built from: decoder, vision encoders, attention."""
