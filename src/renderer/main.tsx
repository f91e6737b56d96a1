// Begins the page: fonts and roles of colour, the theme, the connection to the front, and the window.
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import '@fontsource-variable/inter/wght.css';
import '@fontsource-variable/jetbrains-mono/wght.css';
import './styles/tokens.css';
import './styles/base.css';
import { App } from './app.tsx';
import { startFront } from './state/front.ts';
import { followTheme } from './state/preferences.ts';

followTheme();
startFront();

const root = document.getElementById('root');
if (root !== null) createRoot(root).render(<StrictMode><App /></StrictMode>);
