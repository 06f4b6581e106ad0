"""One version as one HTML page for people. Begin with `page`; `facts` reads what it shows from the views."""
