"""The forecast of `polyrefuse study plan`: how much a study asks, and how long it takes."""
