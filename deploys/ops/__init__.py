"""Operations that components share: each reads one fact, predicts exactly, changes in one command."""
