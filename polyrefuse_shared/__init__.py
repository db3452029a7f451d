"""What every package of the plugin uses: errors, logs, files, intervals, options and versions."""
