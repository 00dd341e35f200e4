"""Operations on files, folders and data: writing, originals, large files, removal."""
