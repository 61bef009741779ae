"""From mel-spectrogram (and pitch) to waveform."""
