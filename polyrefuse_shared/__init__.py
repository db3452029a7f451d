"""What every package of the plugin stands on: errors, writing, intervals, options, versions."""
