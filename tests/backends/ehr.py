"""An old-style application: a form, a cookie, and a word that says no. Prints its port, then serves until it is killed."""

import sys
import threading

from flask import Flask, redirect, request
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user, logout_user
from werkzeug.serving import make_server

PASSWORDS = {"tanaka": "right horse", "suzuki": "battery staple"}
FORM = "<form method=post><input name=username><input name=password type=password><button>Log in</button></form>"

app = Flask(__name__)
app.secret_key = "of a test"
manager = LoginManager(app)
manager.login_view = "login"
lock, wrong = threading.Lock(), 0


class User(UserMixin):
    def __init__(self, name):
        self.id = name


@manager.user_loader
def load(name):
    return User(name) if name in PASSWORDS else None


@app.route("/ehr/login", methods=["GET", "POST"])
def login():
    global wrong
    if request.method == "GET":
        return FORM
    # Names are compared as many old databases do: without regard to case, blanks at the end cut off.
    name = request.form.get("username", "").rstrip().lower()
    if PASSWORDS.get(name) == request.form.get("password"):
        login_user(User(name))
        return redirect("/ehr/home")
    with lock:
        wrong += 1
    return "<p>No.</p>" + FORM


@app.route("/ehr/home")
@login_required
def home():
    return f"Welcome, {current_user.id}"


@app.route("/ehr/logout", methods=["POST"])
def logout():
    logout_user()
    return redirect("/ehr/login")


@app.route("/wrong")
def count():
    return str(wrong)


server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.server_port, flush=True)
sys.stdout.flush()
server.serve_forever()
