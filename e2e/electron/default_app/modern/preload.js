// Electron 32 took File.path away and gave this in its place.
const electron = require('electron');
electron.webUtils ??= { getPathForFile: (file) => file.path };
