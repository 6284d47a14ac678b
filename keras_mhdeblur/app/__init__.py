"""A page in the browser that restores photos; needs the extra `app` (Gradio).

Gradio is imported when a page is made: it reads what it may send and where its files
lie from the environment then.
"""

from keras_mhdeblur.app.serving import create_app, launch
from keras_mhdeblur.app.studio import Choice

__all__ = ["Choice", "create_app", "launch"]
