"""The forecast of `polyrefuse study plan`: the workload of a study, and the time that it takes."""
