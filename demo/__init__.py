"""The browser demo: `vc demo`."""
