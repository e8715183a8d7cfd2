"""The companion to the paper: a page that walks through its sections on this profile's nets, images and results."""
