"""The disentangling autoencoder: two encoders, a bottleneck and a decoder."""
