"""What works like a stage and is none: published nets checked, nets exported, speed measured, the data shown."""
