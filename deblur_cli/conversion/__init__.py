"""Published checkpoints whose tensors carry other names than this tool's networks. Once converted, never read again."""
