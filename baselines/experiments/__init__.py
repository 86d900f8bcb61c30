"""The paper's studies at small scale: trained, restored, scored and compared by one command."""
