"""When an interest says nearly what an older one of the same user says; known without torch."""

#: Cosine to an older interest of the same user above which an interest is not counted as distinct.
TWIN = 0.9
