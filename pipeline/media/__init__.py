"""Raw file -> frames and waveform at the times asked for, surviving every bad file. Imports no torch: child processes start fast."""
